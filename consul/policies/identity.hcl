# The management plane's task: change tenants, keys and the audit trail, lift quarantines, find the Sentinels.
key_prefix "lightcone/identity/" {
  policy = "write"
}
key_prefix "lightcone/quarantine/" {
  policy = "write"
}
service "redis-sentinel" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
