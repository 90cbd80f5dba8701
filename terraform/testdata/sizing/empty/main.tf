# The module without its jobs: the test copies its variables here.
