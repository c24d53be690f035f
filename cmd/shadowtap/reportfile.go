package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/pkg/compare"
)

// reportFile is what run --report names. Agents of which one takes over from
// the other may be given the same file: each adds to it what it found, whichever
// ends first. The zero value is nowhere.
type reportFile struct {
	to io.WriteCloser
	// shared is to if what others write there is to be kept.
	shared *os.File
}

// openReport opens where the report goes in the end. Others may not read it, as
// it may hold secrets. With takesOver what is in a file stays: the agents before
// this one may have ended.
func openReport(name string, stdout io.Writer, takesOver bool) (reportFile, error) {
	if info, err := os.Stat(name); name == "" || name == "-" || err == nil && !info.Mode().IsRegular() {
		to, err := openFinal("report", name, 0o600, stdout)
		return reportFile{to: to}, err
	}
	flags := os.O_RDWR | os.O_CREATE
	if !takesOver {
		flags |= os.O_TRUNC
	}
	file, err := os.OpenFile(name, flags, 0o600)
	if err != nil {
		return reportFile{}, fmt.Errorf("--report: %w", err)
	}
	return reportFile{to: finalFile{file}, shared: file}, nil
}

// write writes r, with what agents before this one have written.
func (f reportFile) write(r *compare.Report) error {
	if f.to == nil {
		return nil
	}
	var err error
	if f.shared != nil {
		err = f.add(r)
	}
	return errors.Join(err, writeFinal(f.to, r))
}

// add adds to r what is in the file, which is this process's alone until it is
// closed. After an error r is as it was.
func (f reportFile) add(r *compare.Report) error {
	if err := unix.Flock(int(f.shared.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", f.shared.Name(), err)
	}
	text, err := io.ReadAll(f.shared)
	if _, back := f.shared.Seek(0, io.SeekStart); back != nil {
		return errors.Join(err, back)
	}
	if err != nil || len(text) == 0 {
		return err
	}
	before := &compare.Report{}
	if err = json.Unmarshal(text, before); err == nil {
		err = r.Merge(before)
	}
	if err != nil {
		return fmt.Errorf("what another agent has written to %s is lost: %w", f.shared.Name(), err)
	}
	return nil
}
