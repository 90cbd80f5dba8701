job "bulk" {
  type = "batch"

  parameterized {
    meta_required = ["in"]
  }

  group "share" {
    task "share" {
      driver = "raw_exec"
      config {
        command = "/bin/true"
      }
    }
  }
}
