# The queue nodes' task: find the other nodes.
service "queue-route" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
