terraform {
  required_version = ">= 1.9" # validations that look at more than their own variable

  required_providers {
    nomad = {
      source  = "hashicorp/nomad"
      version = "~> 2.6" # preserve_counts: an apply leaves alone what the scheduler decided
    }
  }
}

provider "nomad" {
  address = var.nomad_address # the token, if any, comes from NOMAD_TOKEN
}
