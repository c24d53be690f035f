package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// Where things are in the image, besides the program at its root. The
// certificates are where crypto/x509 looks for them first.
const (
	rootsPath = "etc/ssl/certs/ca-certificates.crt"
	sbomDir   = "usr/share/sbom/"
)

// file is one file of the image.
type file struct {
	name    string // relative to the root
	mode    int64
	content []byte
}

// newImage returns the image of one platform. Certificates and the program are
// layers of their own: the first rarely change.
func newImage(o options, p v1.Platform, program string) (v1.Image, error) {
	binary, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	sbom, err := newSBOM(o, program)
	if err != nil {
		return nil, err
	}
	image := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	for _, files := range [][]file{
		{{rootsPath, 0o644, rootCertificates()}},
		{{o.programName(), 0o755, binary}, {sbomDir + o.programName() + ".cdx.json", 0o644, sbom}},
	} {
		layer, err := newLayer(files, o.created)
		if err != nil {
			return nil, err
		}
		image, err = mutate.Append(image, mutate.Addendum{Layer: layer, History: v1.History{
			Created: v1.Time{Time: o.created}, CreatedBy: "deploy/image",
		}})
		if err != nil {
			return nil, err
		}
	}
	config, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.Created = v1.Time{Time: o.created}
	config.OS, config.Architecture = p.OS, p.Architecture
	config.Config = v1.Config{
		Entrypoint: []string{"/" + o.programName()},
		WorkingDir: "/",
		// Capabilities that are added to a container are effective for root
		// only; what it may do is up to them, not to the user.
		User: "0:0",
		Labels: map[string]string{
			"org.opencontainers.image.title":    o.programName(),
			"org.opencontainers.image.source":   "https://github.com/shadowtap/shadowtap",
			"org.opencontainers.image.licenses": "Apache-2.0 AND (GPL-2.0-only OR Apache-2.0)",
			"org.opencontainers.image.version":  o.version,
		},
	}
	return mutate.ConfigFile(image, config)
}

// newLayer packs files and the directories above them.
func newLayer(files []file, created time.Time) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := map[string]bool{".": true}
	var mkdir func(dir string) error
	mkdir = func(dir string) error {
		if made[dir] {
			return nil
		}
		made[dir] = true
		if err := mkdir(path.Dir(dir)); err != nil {
			return err
		}
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: created})
	}
	for _, f := range files {
		if err := mkdir(path.Dir(f.name)); err != nil {
			return nil, err
		}
		if err := writeFile(w, f, created); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(b.Bytes())), nil
	}, tarball.WithCompressedCaching, tarball.WithMediaType(types.OCILayer))
}

func writeFile(w *tar.Writer, f file, modified time.Time) error {
	err := w.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.content)), ModTime: modified,
	})
	if err != nil {
		return err
	}
	_, err = w.Write(f.content)
	return err
}

// rootCertificates returns Mozilla's root certificates in PEM, so that an
// https mirror is verified as it would be on any other system. They come from
// a module and not from the machine that builds, which makes them the same
// everywhere. Those that Mozilla trusts only for certificates of before some
// date are left out, since PEM cannot say so.
func rootCertificates() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		fmt.Fprintf(&b, "# SHA-256 %x\n", sha256.Sum256(root.Certificate))
		// Writing to a bytes.Buffer does not fail.
		_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate})
	}
	return b.Bytes()
}
