package consul

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

//go:embed policies/*.hcl
var policyFiles embed.FS

// Policies are the rules of the cluster's ACL policies by name: policies/*.hcl,
// each of which says in its first line who gets it. They are written for agents
// whose default is to deny.
func Policies() map[string]string {
	rules := make(map[string]string)
	names, err := fs.Glob(policyFiles, "policies/*.hcl")
	if err != nil {
		panic(fmt.Sprintf("the embedded policies cannot be listed: %v", err)) // a pattern of ours, checked by every test
	}
	for _, name := range names {
		content, err := policyFiles.ReadFile(name)
		if err != nil {
			panic(fmt.Sprintf("the embedded policy %s cannot be read: %v", name, err)) // embedded: it is there
		}
		rules[strings.TrimSuffix(path.Base(name), ".hcl")] = string(content)
	}
	return rules
}
