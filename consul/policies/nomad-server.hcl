# A Nomad server: find its peers and register itself; workloads bring identities of their own, so no acl:write.
agent_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "read"
}
service_prefix "nomad" {
  policy = "write"
}
