# The tasks of the Redis job: see the Sentinels and servers that are there, to join them.
service "redis" {
  policy = "read"
}
service "redis-sentinel" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
