package privilege

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Unreadable returns those of the files and directories that only
// CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH lets the process read. What does not
// exist is not among them.
func Unreadable(files []string) ([]string, error) {
	type answer struct {
		files []string
		err   error
	}
	done := make(chan answer)
	go func() {
		// The thread ends with the goroutine: its capabilities are not restored.
		runtime.LockOSThread()
		var a answer
		if a.err = withoutDAC(); a.err == nil {
			a.files = denied(files)
		}
		done <- a
	}()
	a := <-done
	return a.files, a.err
}

// withoutDAC takes from the calling thread what overrides permissions of files.
func withoutDAC() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	data[0].Effective &^= uint32(Of(unix.CAP_DAC_OVERRIDE, unix.CAP_DAC_READ_SEARCH))
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("set capabilities: %w", err)
	}
	return nil
}

// denied is the files that the calling thread may not read.
func denied(files []string) (all []string) {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			if errors.Is(err, fs.ErrPermission) {
				all = append(all, name)
			}
			continue
		}
		_ = f.Close()
	}
	return all
}
