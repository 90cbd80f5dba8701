# The workers' task: nothing. Nomad registers a worker with the service's own identity, which covers that one name.
