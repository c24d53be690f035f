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

// confine gives up what the agent does not need once it is set up, before it
// looks at the first packet. user is who to become, "" for nobody else.
func confine(needs agent.Needs, user string, log *slog.Logger) error {
	keep := privilege.Of(needs.Capabilities...)
	var become *privilege.User
	if user != "" {
		var err error
		if become, err = privilege.ParseUser(user); err != nil {
			return fmt.Errorf("--user %w", err)
		}
	} else {
		// Root reads what is others' by a capability. It may go where the
		// rules can be read again without it.
		unreadable, err := privilege.Unreadable(needs.Files)
		if err != nil {
			return err
		}
		if len(unreadable) > 0 {
			keep |= privilege.Of(unix.CAP_DAC_READ_SEARCH)
			log.Info("CAP_DAC_READ_SEARCH is kept: files that are read again are not readable without", "files", unreadable)
		}
	}
	switch err := privilege.Drop(keep, become); {
	case errors.Is(err, privilege.ErrCgo) && become == nil:
		log.Warn("privileges are kept", "error", err)
		return nil
	case err != nil:
		return err
	}
	if become != nil {
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
	}
	return nil
}
