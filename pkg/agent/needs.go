package agent

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Needs is what a run takes of the process once New has returned.
type Needs struct {
	// Capabilities are those of capabilities(7) that attaching to further
	// interfaces and namespaces takes.
	Capabilities []int
	// Files are read again when they change, and the directories of rules
	// watched. Those of certificates that later rules name are not among them:
	// such rules do not load if they cannot be read.
	Files []string
	// Program, if not empty, is run for credentials of the API server.
	Program string
}

// Needs returns what Run will need. Privileges beyond it can be dropped before
// Run, which parses the first packet.
func (a *Agent) Needs() Needs {
	var n Needs
	c := a.cfg
	if !a.offline() {
		n.Capabilities = []int{unix.CAP_BPF, unix.CAP_NET_ADMIN, unix.CAP_PERFMON}
	}
	if c.inPods() {
		// setns(2) into the namespaces, and to get at those of processes, which
		// takes CAP_SYS_PTRACE. The runtimes of Kubernetes mount namespaces on
		// files; elsewhere a file is often a link to /proc/PID/ns/net, or has no
		// permissions until ip-netns(8) has mounted something there.
		n.Capabilities = append(n.Capabilities, unix.CAP_SYS_ADMIN)
		if !c.Kube || c.NetNSProc != "" || strings.Contains(strings.Join(c.NetNS, " "), "/proc/") {
			n.Capabilities = append(n.Capabilities, unix.CAP_SYS_PTRACE, unix.CAP_DAC_READ_SEARCH)
		}
	}
	for _, path := range c.Files {
		n.Files = append(n.Files, path, filepath.Dir(path))
		// Nil for a file. One that is no rules file does no harm.
		entries, _ := os.ReadDir(path)
		for _, e := range entries {
			n.Files = append(n.Files, filepath.Join(path, e.Name()))
		}
	}
	n.Files = append(n.Files, c.AdminTokenFile, c.AdminCert, c.AdminKey)
	if a.cluster != nil {
		n.Files = append(n.Files, a.cluster.creds.Files...)
		n.Program = a.cluster.creds.Program
	}
	for _, m := range a.current.Load().program.Mirrors() {
		if t := m.Policy.TLS; t != nil {
			n.Files = append(n.Files, t.CACertificates, t.ClientCertificate, t.PrivateKey)
		}
	}
	return n
}
