# An operator who looks, at the web UI or with curl: services and nodes, read-only; no keys, no tokens.
service_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
