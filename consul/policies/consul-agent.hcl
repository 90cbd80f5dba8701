# A Consul agent's own token: keep its node in the catalogue, see services for DNS and anti-entropy.
node_prefix "" {
  policy = "write"
}
service_prefix "" {
  policy = "read"
}
