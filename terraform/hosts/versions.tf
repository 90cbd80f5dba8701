# No provider beyond Terraform's own: terraform_data reaches the hosts by SSH.
# 1.11 for ephemeral variables, which keep the secrets out of the state.
terraform {
  required_version = ">= 1.11"
}
