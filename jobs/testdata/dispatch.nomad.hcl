# A batch that runs when it is dispatched, and says with what.

job "dispatch" {
  type = "batch"

  parameterized {
    meta_required = ["folder"]
    meta_optional = ["width"]
  }

  group "g" {
    task "t" {
      driver = "raw_exec"

      config {
        command = "/bin/sh"
        args    = ["-c", "echo resizing $NOMAD_META_folder; echo a warning >&2"]
      }

      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
