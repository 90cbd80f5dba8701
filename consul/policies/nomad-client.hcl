# A Nomad client: as the server, and take away services of allocations that are gone, whose own tokens may be, too.
agent_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
service_prefix "" {
  policy = "write"
}
