# The load balancer's task: find the gateways; their management service stays out of its sight.
service "gateway" {
  policy = "read"
}
node_prefix "" {
  policy = "read"
}
