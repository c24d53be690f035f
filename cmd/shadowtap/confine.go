package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shadowtap/shadowtap/pkg/agent"
	"github.com/shadowtap/shadowtap/pkg/privilege"
)

// confine gives up the privileges that the agent does not need once it is set
// up, before it looks at the first packet. It becomes user, UID or UID:GID,
// unless that is empty.
func confine(needs agent.Needs, user string, log *slog.Logger) error {
	if user != "" {
		return become(needs, user)
	}
	keep := privilege.Of(needs.Capabilities...)
	// Root reads the files of others by a capability, which may go if every
	// file that is read again later can be read without it.
	unreadable, err := privilege.Unreadable(needs.Files)
	if err != nil {
		return err
	}
	if len(unreadable) > 0 {
		keep |= privilege.Of(unix.CAP_DAC_READ_SEARCH)
		log.Info("CAP_DAC_READ_SEARCH is kept: files that are read again when they change are not readable without it", "files", unreadable)
	}
	err = privilege.Drop(keep, nil)
	if errors.Is(err, privilege.ErrCgo) {
		log.Warn("privileges are kept", "error", err)
		return nil
	}
	return err
}

// become is confine with a user. What that user may not do is found out now, and
// not when a certificate or a token is read again weeks later.
func become(needs agent.Needs, user string) error {
	u, err := privilege.ParseUser(user)
	if err != nil {
		return fmt.Errorf("--user %w", err)
	}
	if err := privilege.Drop(privilege.Of(needs.Capabilities...), u); err != nil {
		return fmt.Errorf("--user %s: %w", user, err)
	}
	unreadable, err := privilege.Unreadable(needs.Files)
	if err != nil {
		return err
	}
	if len(unreadable) > 0 {
		return fmt.Errorf("--user %s cannot read %s, which is read again when it changes", user, strings.Join(unreadable, ", "))
	}
	if needs.Program != "" {
		if _, err := exec.LookPath(needs.Program); err != nil {
			return fmt.Errorf("--user %s cannot run what the kubeconfig takes credentials from: %w", user, err)
		}
	}
	return nil
}
