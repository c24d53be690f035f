package main

import (
	"bytes"
	"debug/buildinfo"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// newSBOM lists, as CycloneDX, what is in the image: the modules that the
// linker says the program is made of, which are those `go version -m` prints,
// Go's standard library, and the module the root certificates are from.
func newSBOM(o options, program string) ([]byte, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, err
	}
	main := golangModule(info.Main.Path, o.version)
	main.Type = cdx.ComponentTypeApplication
	components := []cdx.Component{golangModule("std", strings.TrimPrefix(info.GoVersion, "go"))}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		components = append(components, golangModule(dep.Path, dep.Version))
	}
	roots, err := rootsModule()
	if err != nil {
		return nil, err
	}
	components = append(components, roots)

	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: o.created.Format(time.RFC3339), Component: &main}
	bom.Components = &components
	var b bytes.Buffer
	encoder := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true)
	if err := encoder.EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func golangModule(path, version string) cdx.Component {
	purl := fmt.Sprintf("pkg:golang/%s@%s", path, version)
	return cdx.Component{
		BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl,
	}
}

// rootsModule is the module that rootCertificates takes them from: one of this
// program's, not of the one in the image.
func rootsModule() (cdx.Component, error) {
	const path = "golang.org/x/crypto/x509roots/fallback"
	if own, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range own.Deps {
			if dep.Path == path {
				c := golangModule(dep.Path, dep.Version)
				c.Type = cdx.ComponentTypeData
				return c, nil
			}
		}
	}
	return cdx.Component{}, fmt.Errorf("the build information of this program does not name %s", path)
}
