output "id" {
  description = "Another one each time the agent has been applied."
  value       = terraform_data.agent.id
}
