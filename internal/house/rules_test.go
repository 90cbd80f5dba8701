package house

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"unicode/utf8"
)

const module = "lightcone"

// layer is where a folder stands in the import direction:
// commands -> services -> functions (the contract) -> root -> standard library,
// and internal beside the root.
type layer int

const (
	unknownLayer layer = iota
	rootLayer
	internalLayer
	contractLayer
	serviceLayer
	commandLayer
)

// services are the folders that never import each other. Each function under
// functions/ is one more.
var services = []string{
	"client", "gateway", "identity", "queue", "usage", "usage/billing", "scheduler", "consul", "jobs", "bulk", "capacity",
}

// commands wire services together; each folder below cmd is one more. They do not import
// each other, but for what is below sharedCommand.
var commands = []string{"bench", "cluster", "terraform"}

const sharedCommand = "cmd/internal"

// vendors says which folders (with all below them) may import a vendor's library.
var vendors = map[string][]string{
	"github.com/valyala/fasthttp":      {"gateway", "functions/runtime", "functions/wire", "bench"},
	"github.com/h2non/bimg":            {"functions/resize"},
	"github.com/hashicorp/consul/api":  {"consul"},
	"github.com/hashicorp/nomad/api":   {"jobs", "terraform/standin"},
	"github.com/redis/go-redis":        {"identity"},
	"github.com/maypok86/otter":        {"identity"},
	"go.etcd.io/bbolt":                 {"internal/document/embedded"},
	"github.com/nats-io":               {"queue"},
	"github.com/duckdb":                {"usage/billing"},
	"github.com/marcboeker/go-duckdb":  {"usage/billing"},
	"github.com/spf13/cobra":           {"cmd"},
	"gocloud.dev":                      {"bulk", "usage"},
	"github.com/davidbyttow/govips/v2": {}, // the other binding of libvips: one is enough
}

// emptyNames say nothing about what is inside.
var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "pkg", "misc"}

const (
	mostLines       = 399
	shortestComment = 120 // characters; less cannot say purpose, invariants and limits
)

// within says whether folder is one of the given or below it.
func within(folder string, tops ...string) bool {
	return slices.ContainsFunc(tops, func(top string) bool {
		return folder == top || strings.HasPrefix(folder, top+"/")
	})
}

// placeOf is a folder's layer and, in it, what the folder belongs to.
func placeOf(folder string) (layer, string) {
	parts := strings.SplitN(folder, "/", 3)
	switch {
	case folder == "":
		return rootLayer, ""
	case within(folder, "internal"):
		return internalLayer, ""
	case folder == "functions":
		return contractLayer, ""
	case parts[0] == "functions":
		return serviceLayer, parts[0] + "/" + parts[1]
	case parts[0] == "cmd" && len(parts) > 1:
		return commandLayer, parts[0] + "/" + parts[1]
	case within(folder, commands...):
		return commandLayer, parts[0]
	}
	owner := "" // usage/billing is not usage: the longest name that fits counts
	for _, service := range services {
		if within(folder, service) && len(service) > len(owner) {
			owner = service
		}
	}
	if owner == "" {
		return unknownLayer, ""
	}
	return serviceLayer, owner
}

// mayImport says whether code in one folder may import another. Tests of a
// service may use its neighbours: they run real components, not mocks.
func mayImport(from, to string, test bool) bool {
	fromLayer, fromOwner := placeOf(from)
	toLayer, toOwner := placeOf(to)
	switch fromLayer {
	case rootLayer:
		return toLayer == rootLayer && test
	case internalLayer, contractLayer:
		return toLayer == rootLayer || toLayer == internalLayer || from == to
	case serviceLayer:
		if toLayer != serviceLayer {
			return toLayer == rootLayer || toLayer == internalLayer || toLayer == contractLayer
		}
		return toOwner == fromOwner || within(fromOwner, toOwner) || test
	case commandLayer:
		return toLayer != unknownLayer && (toLayer != commandLayer || toOwner == fromOwner || toOwner == sharedCommand)
	default:
		return false
	}
}

// brokenImports lists imports against the direction, and folders that have no
// place in it.
func brokenImports(sources []source) []string {
	var broken []string
	for _, s := range sources {
		if l, _ := placeOf(s.folder()); l == unknownLayer {
			broken = append(broken, fmt.Sprintf("%s: the folder %s is not in the table of services; add it to internal/house", s.path, s.folder()))
			continue
		}
		for _, imported := range s.imports {
			first, _, _ := strings.Cut(imported, "/")
			switch to, ours := strings.CutPrefix(imported, module+"/"); {
			case imported == module:
				if !mayImport(s.folder(), "", s.test) {
					broken = append(broken, fmt.Sprintf("%s imports the root package", s.path))
				}
			case ours:
				if !mayImport(s.folder(), to, s.test) {
					broken = append(broken, fmt.Sprintf("%s imports %s, against the direction commands -> services -> functions -> root", s.path, imported))
				}
			case strings.Contains(first, ".") && s.folder() == "" && !s.test:
				broken = append(broken, fmt.Sprintf("%s imports %s; the root package imports only the standard library", s.path, imported))
			}
		}
	}
	return broken
}

// strayVendors lists imports of a vendor's library outside its folder.
func strayVendors(sources []source) []string {
	var broken []string
	for _, s := range sources {
		for _, imported := range s.imports {
			for vendor, folders := range vendors {
				if within(imported, vendor) && !within(s.folder(), folders...) {
					broken = append(broken, fmt.Sprintf("%s imports %s, which belongs in %s", s.path, imported, strings.Join(folders, ", ")))
				}
			}
		}
	}
	return broken
}

// shortPackageComments lists packages that are not explained.
func shortPackageComments(sources []source) []string {
	longest := make(map[string]int)
	for _, s := range sources {
		if !s.test {
			longest[s.folder()] = max(longest[s.folder()], utf8.RuneCountInString(s.packageDoc))
		}
	}
	var broken []string
	for _, folder := range slices.Sorted(maps.Keys(longest)) {
		if longest[folder] < shortestComment {
			broken = append(broken, fmt.Sprintf("%s: a package comment of %d characters; want purpose, invariants and what it does not do, in at least %d", "./"+folder, longest[folder], shortestComment))
		}
	}
	return broken
}

// longFiles lists hand-written files that are too long to be about one thing.
func longFiles(sources []source) []string {
	var broken []string
	for _, s := range sources {
		if !s.generated && s.lines > mostLines {
			broken = append(broken, fmt.Sprintf("%s: %d lines; want at most %d: split it by what it is about", s.path, s.lines, mostLines))
		}
	}
	return broken
}

// emptyNamesIn lists folders and packages whose name says nothing.
func emptyNamesIn(files []string, sources []source) []string {
	var broken []string
	for _, folder := range foldersOf(files) {
		if slices.Contains(emptyNames, path.Base(folder)) {
			broken = append(broken, fmt.Sprintf("%s: name the folder after what is in it", folder))
		}
	}
	for _, s := range sources {
		if slices.Contains(emptyNames, strings.TrimSuffix(s.packageName, "_test")) {
			broken = append(broken, fmt.Sprintf("%s: name package %s after what is in it", s.path, s.packageName))
		}
	}
	return broken
}

// unexplained lists exported names without a comment.
func unexplained(sources []source) []string {
	var broken []string
	for _, s := range sources {
		if s.test || s.generated {
			continue
		}
		for _, name := range s.undocumented {
			broken = append(broken, fmt.Sprintf("%s: %s is exported and has no comment", s.path, name))
		}
	}
	return broken
}

// foldersOf are the folders that directly hold a file, without the root, hidden
// folders and testdata, sorted.
func foldersOf(files []string) []string {
	found := make(map[string]bool)
	for _, file := range files {
		folder := path.Dir(file)
		hidden := slices.ContainsFunc(strings.Split(folder, "/"), func(part string) bool {
			return strings.HasPrefix(part, ".") || part == "testdata"
		})
		if !hidden { // the root is "." here
			found[folder] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

const mapFence = "```folders"

// differences compares the folder map in a page (the block fenced as "folders",
// a line for each folder that holds files: its name, a slash, what it is) with
// the tree.
func differences(page string, files []string) []string {
	_, block, found := strings.Cut(page, mapFence+"\n")
	block, _, closed := strings.Cut(block, "```")
	if !found || !closed {
		return []string{"there is no block that starts with " + mapFence}
	}
	var broken, mapped []string
	for line := range strings.Lines(block) {
		folder, says, _ := strings.Cut(strings.TrimSpace(line), " ")
		folder, slash := strings.CutSuffix(folder, "/")
		if !slash || strings.TrimSpace(says) == "" {
			broken = append(broken, fmt.Sprintf("map line %q: want `folder/ what it is`", strings.TrimSpace(line)))
			continue
		}
		if slices.Contains(mapped, folder) {
			broken = append(broken, fmt.Sprintf("%s/ is in the map twice", folder))
		}
		mapped = append(mapped, folder)
	}
	tree := foldersOf(files)
	for _, folder := range tree {
		if !slices.Contains(mapped, folder) {
			broken = append(broken, fmt.Sprintf("%s/ is in the tree, not in the map", folder))
		}
	}
	for _, folder := range mapped {
		if !slices.Contains(tree, folder) {
			broken = append(broken, fmt.Sprintf("%s/ is in the map, but holds no file in the tree", folder))
		}
	}
	return broken
}
