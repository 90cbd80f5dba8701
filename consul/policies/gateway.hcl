# The gateways' task: find the workers of every function, each other, the Sentinels and the queue's nodes, read who may call, put bad input in quarantine.
service_prefix "worker-" {
  policy = "read"
}
service "gateway-manage" {
  policy = "read"
}
service "queue" {
  policy = "read"
}
service "redis-sentinel" {
  policy = "read"
}
key_prefix "lightcone/identity/" {
  policy = "read"
}
key_prefix "lightcone/quarantine/" {
  policy = "write"
}
node_prefix "" {
  policy = "read"
}
