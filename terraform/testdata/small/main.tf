# The shape of the real module, with jobs that any host can run.

terraform {
  required_providers {
    nomad = {
      source  = "hashicorp/nomad"
      version = "~> 2.6"
    }
  }
}

provider "nomad" {
  address = var.nomad_address
}

variable "nomad_address" {
  type = string
}

variable "greeting" {
  type    = string
  default = "hello"
}

variable "patience" {
  type    = number
  default = 600
}

variable "functions" { # and their floors
  type    = map(number)
  default = { one = 1, two = 0 }
}

resource "nomad_job" "worker" {
  for_each         = var.functions
  jobspec          = file("${path.module}/worker.nomad.hcl")
  detach           = false
  preserve_counts  = true
  purge_on_destroy = true
  rerun_if_dead    = each.value > 0

  hcl2 {
    vars = {
      function = each.key
      floor    = each.value
      greeting = var.greeting
      racks    = jsonencode(["a", "b"])
    }
  }
}

resource "nomad_job" "gateway" {
  depends_on       = [nomad_job.worker]
  jobspec          = file("${path.module}/gateway.nomad.hcl")
  detach           = false
  purge_on_destroy = true
  rerun_if_dead    = true

  hcl2 {
    vars = { patience = var.patience }
  }
}

resource "nomad_job" "bulk" {
  jobspec          = file("${path.module}/bulk.nomad.hcl")
  detach           = false
  purge_on_destroy = true
}
