# The scheduler's task: stand for election, keep its own keys, see who is there.
session_prefix "" {
  policy = "write"
}
key_prefix "lightcone/scheduler/" {
  policy = "write"
}
service_prefix "" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
