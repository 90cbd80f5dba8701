# The workers' task: find the queue's nodes. Nomad registers a worker with the service's own identity, which covers that one name.
service "queue" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
