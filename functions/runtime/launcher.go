package runtime

import (
	"os/exec"
	goruntime "runtime"
)

// launcher starts every process from one operating-system thread that lives as
// long as the supervisor: the kernel's parent-death signal, which takes the
// processes along, fires when the *thread* that started them ends.
type launcher struct {
	requests chan launch
	done     chan struct{}
}

type launch struct {
	command *exec.Cmd
	result  chan error
}

func newLauncher() *launcher {
	l := &launcher{requests: make(chan launch), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		goruntime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for request := range l.requests {
			request.result <- request.command.Start()
		}
	}()
	return l
}

// start is command.Start on the launcher's thread.
func (l *launcher) start(command *exec.Cmd) error {
	result := make(chan error, 1)
	l.requests <- launch{command: command, result: result}
	return <-result
}

// close ends the thread. Nobody may be in start, and every process must be gone.
func (l *launcher) close() {
	close(l.requests)
	<-l.done
}
