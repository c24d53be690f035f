// Command image writes shadowtap's container image without a container
// engine: an OCI image layout in one tar file, with an index of one image for
// each architecture.
//
//	image -version v0.3.0 -o image.tar -platforms linux/amd64,linux/arm64
//
// The image is FROM scratch: the static program, the root certificates that
// https mirrors are verified against, and the list of what the program is made
// of. The same sources, Go release and SOURCE_DATE_EPOCH give the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// options say what is built.
type options struct {
	source     string // directory of the main module
	program    string // package of the program, below source
	output     string // tar file to write
	repository string // name of the image, without a tag
	version    string // the tag, and what `shadowtap version` prints
	platforms  []v1.Platform
	created    time.Time // of every file and image
}

// programName is the name of the program, as a file of the image.
func (o options) programName() string { return path.Base(o.program) }

// name is the whole name of the image.
func (o options) name() string { return o.repository + ":" + o.version }

func run(args []string) error {
	var o options
	var platforms string
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	flags.StringVar(&o.source, "source", "../..", "directory of the main module")
	flags.StringVar(&o.program, "program", "cmd/shadowtap", "package of the program, below -source")
	flags.StringVar(&o.output, "o", "image.tar", "tar file to write")
	flags.StringVar(&o.repository, "repository", "ghcr.io/shadowtap/shadowtap", "name of the image, without a tag")
	flags.StringVar(&o.version, "version", "dev", "version of the program, and tag of the image")
	flags.StringVar(&platforms, "platforms", "linux/amd64,linux/arm64", "platforms, separated by commas")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	for _, p := range strings.Split(platforms, ",") {
		platform, err := v1.ParsePlatform(p)
		if err != nil {
			return fmt.Errorf("-platforms: %w", err)
		}
		// The compiler would not know of a variant, and make the program for
		// another machine than the image says.
		if platform.OS == "" || platform.Architecture == "" || p != platform.OS+"/"+platform.Architecture {
			return fmt.Errorf("-platforms: %q: expected an operating system and an architecture, such as linux/arm64", p)
		}
		o.platforms = append(o.platforms, *platform)
	}
	if _, err := name.NewTag(o.name(), name.StrictValidation); err != nil {
		return fmt.Errorf("-repository and -version: %w", err)
	}
	var err error
	if o.created, err = sourceDate(os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		return err
	}
	return build(o)
}

// sourceDate is the time that reproducible-builds.org's SOURCE_DATE_EPOCH
// gives, in seconds since 1970. There is no default: the time of the build
// would make every image a different one.
func sourceDate(epoch string) (time.Time, error) {
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH %q: expected the seconds of the commit's time, as `git log -1 --format=%%ct` prints them", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// build makes the image of every platform and writes them all.
func build(o options) error {
	work, err := os.MkdirTemp("", "shadowtap-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)

	var images []platformImage
	for _, p := range o.platforms {
		program := filepath.Join(work, p.Architecture)
		if err := compile(o, p, program); err != nil {
			return err
		}
		image, err := newImage(o, p, program)
		if err != nil {
			return fmt.Errorf("image for %s: %w", p, err)
		}
		images = append(images, platformImage{p, image})
	}
	return writeLayout(o, images, filepath.Join(work, "layout"))
}

// compile builds the program for a platform as `make build` does for this one.
func compile(o options, p v1.Platform, output string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -X main.version="+o.version, "-o", output, "./"+o.program)
	cmd.Dir = o.source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+p.OS, "GOARCH="+p.Architecture, "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile for %s: %w\n%s", p, err, out)
	}
	return nil
}
