package jobs

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed *.nomad.hcl
var specs embed.FS

const specSuffix = ".nomad.hcl"

// Specs are the names of the embedded job specifications, sorted, without their
// suffix: "gateway" stands for gateway.nomad.hcl.
func Specs() []string {
	entries, err := specs.ReadDir(".")
	if err != nil {
		panic(fmt.Sprintf("the embedded job specifications: %v", err)) // the root of an embedded tree always opens
	}
	var names []string
	for _, entry := range entries {
		names = append(names, strings.TrimSuffix(entry.Name(), specSuffix))
	}
	return names
}

// Source is the HCL text of the embedded specification with that name; the error
// of an unknown name lists the known ones.
func Source(name string) (string, error) {
	text, err := specs.ReadFile(name + specSuffix)
	if err != nil {
		return "", fmt.Errorf("there is no job specification %q; there are %s", name, strings.Join(Specs(), ", "))
	}
	return string(text), nil
}
