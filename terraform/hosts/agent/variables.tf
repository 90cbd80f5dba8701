variable "name" {
  description = "The agent: consul or nomad."
  type        = string
}

variable "user" {
  description = "The user that the agent runs as."
  type        = string
}

variable "connection" {
  description = "How to reach the host, what runs agents there, and the bounded command that its scripts are run by, up to their folder."
  type = object({
    host             = string
    host_key         = string
    user             = string
    port             = number
    private_key_path = string
    init             = string
    run              = string
  })
}

variable "config" {
  description = "The agent's configuration, HCL, without secrets."
  type        = string
}

variable "host_config" {
  description = "More of the agent's configuration, for this host alone."
  type        = string
  default     = ""
}

variable "secrets" {
  description = "The part of the configuration that only the agent may read."
  type        = string
  sensitive   = true
  ephemeral   = true
}

variable "unit" {
  description = "The agent's systemd unit."
  type        = string
}

variable "executable" {
  description = "The SHA-256 that the executable came with: another one is another agent."
  type        = string
}

variable "revision" {
  description = "Whatever else the agent is applied again for when it changes."
  type        = any
}

variable "await" {
  description = "The arguments of await-nomad.sh, for an agent that is applied only when the cluster takes it for ready."
  type        = list(string)
  default     = []
}
