# What the scheduler may do in a Nomad with access control:
#
#   nomad acl policy apply -namespace default -job scheduler scheduler jobs/scheduler.policy.hcl
namespace "default" {
  capabilities = ["read-job", "scale-job"]
}
