# The gateways' task: find the workers of every function, and nothing else.
service_prefix "worker-" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
