// Package file reads rules from files and directories and watches them for
// changes.
package file

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/shadowtap/shadowtap/pkg/rules"
)

// MaxSize is the largest rules file that is read, in bytes.
const MaxSize = 16 << 20

// Read decodes the rules in files and directories, in the order given. Of a
// directory it takes the files called *.yaml, *.yml and *.json in the order of
// their names, but none that begin with a dot, and does not descend: a mounted
// ConfigMap has its previous versions in directories beside the files. What
// cannot be read is a Problem like what cannot be understood.
func Read(paths []string) (*rules.Snapshot, rules.Problems) {
	out := &rules.Snapshot{}
	var problems rules.Problems
	files, missing := list(paths)
	problems = append(problems, missing...)
	for _, name := range files {
		data, err := read(name)
		if err != nil {
			problems = append(problems, problem(name, err))
			continue
		}
		s, ps := rules.Decode(name, data)
		out.Add(s)
		problems = append(problems, ps...)
	}
	return out, problems
}

// Size is how many bytes Read would read of files that are there.
func Size(paths []string) (n int64) {
	files, _ := list(paths)
	for _, name := range files {
		if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() && info.Size() <= MaxSize {
			n += info.Size()
		}
	}
	return n
}

// list is the rules files that paths stand for.
func list(paths []string) (files []string, problems rules.Problems) {
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			problems = append(problems, problem(path, err))
			continue
		}
		if !info.IsDir() {
			files = append(files, path)
			continue
		}
		entries, err := os.ReadDir(path) // sorted by name
		if err != nil {
			problems = append(problems, problem(path, err))
			continue
		}
		found := false
		for _, e := range entries {
			name := filepath.Join(path, e.Name())
			if !isRules(e.Name()) || isDir(name) {
				continue
			}
			found = true
			files = append(files, name)
		}
		if !found {
			p := problem(path, errors.New("holds no *.yaml, *.yml or *.json file"))
			p.Warning = true
			problems = append(problems, p)
		}
	}
	return files, problems
}

func isRules(name string) bool {
	return !strings.HasPrefix(name, ".") &&
		slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name)))
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}

// read reads one file within the bound.
func read(name string) ([]byte, error) {
	// Opening a FIFO would wait for a writer.
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("expected a regular file or a directory")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > MaxSize {
		return nil, fmt.Errorf("is larger than %d MiB", MaxSize>>20)
	}
	return data, nil
}

// problem is a Problem with a file as a whole.
func problem(name string, err error) rules.Problem {
	// The name stands before the message already.
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = cmp.Or(pe.Err, err)
	}
	return rules.Problem{Position: rules.Position{File: name}, Message: err.Error()}
}
