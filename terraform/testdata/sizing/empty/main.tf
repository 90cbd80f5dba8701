# The module without its jobs: the test copies its variables here.

locals {
  functions = {} # main.tf has them
}
