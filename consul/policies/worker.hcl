# The workers' task: find the queue's nodes and the Sentinels, put bad input of queued calls in quarantine. Nomad registers a worker with the service's own identity, which covers that one name.
service "queue" {
  policy = "read"
}
service "redis-sentinel" {
  policy = "read"
}
key_prefix "lightcone/quarantine/" {
  policy = "write"
}
node_prefix "" {
  policy = "read"
}
