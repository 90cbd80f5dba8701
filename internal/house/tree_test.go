package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// source is what the rules know of one Go file.
type source struct {
	path         string // from the root, with slashes
	packageName  string
	packageDoc   string
	imports      []string
	lines        int
	test         bool
	generated    bool
	undocumented []string // exported declarations without a comment
}

func (s source) folder() string {
	if dir := path.Dir(s.path); dir != "." {
		return dir
	}
	return ""
}

const root = "../.."

// trackedFiles are the files that git tracks, or would if asked to add
// everything, from the root and with slashes.
func trackedFiles(t *testing.T) []string {
	t.Helper()
	// Trusting every owner is safe for listing names, and a checkout in a
	// container often belongs to somebody else.
	command := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	command.Dir = root
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v: %s; the house rules need the project's git checkout", err, stderr.String())
	}
	files := strings.Split(strings.TrimRight(string(output), "\x00"), "\x00")
	return slices.DeleteFunc(files, func(name string) bool {
		_, err := os.Stat(filepath.Join(root, name))
		return err != nil // deleted, and not committed yet
	})
}

// readSources describes the Go files among files, testdata left out.
func readSources(t *testing.T, files []string) []source {
	t.Helper()
	var sources []source
	for _, name := range files {
		if path.Ext(name) != ".go" || slices.Contains(strings.Split(name, "/"), "testdata") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		s, err := describe(name, content)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, s)
	}
	return sources
}

// describe reads one Go file, whatever its build constraints are.
func describe(name string, content []byte) (source, error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return source{}, fmt.Errorf("read %s: %w", name, err)
	}
	s := source{
		path:        name,
		packageName: file.Name.Name,
		packageDoc:  file.Doc.Text(),
		lines:       bytes.Count(content, []byte("\n")),
		test:        strings.HasSuffix(name, "_test.go"),
		generated:   ast.IsGenerated(file),
	}
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return source{}, fmt.Errorf("read %s: import %s: %w", name, spec.Path.Value, err)
		}
		s.imports = append(s.imports, imported)
	}
	for _, declaration := range file.Decls {
		s.undocumented = append(s.undocumented, undocumented(declaration)...)
	}
	return s, nil
}

// undocumented are the exported names that a declaration leaves without a
// comment. A comment on a group of constants or variables covers the group.
func undocumented(declaration ast.Decl) []string {
	var names []string
	switch d := declaration.(type) {
	case *ast.FuncDecl:
		receiver, exported := receiverOf(d)
		if d.Name.IsExported() && exported && d.Doc == nil {
			names = append(names, receiver+d.Name.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
					names = append(names, s.Name.Name)
				}
			case *ast.ValueSpec:
				for _, name := range s.Names {
					if name.IsExported() && d.Doc == nil && s.Doc == nil && s.Comment == nil {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// receiverOf is a method's type with a dot, and whether callers elsewhere can
// name it; a plain function has an exported receiver by default.
func receiverOf(function *ast.FuncDecl) (prefix string, exported bool) {
	if function.Recv == nil || len(function.Recv.List) == 0 {
		return "", true
	}
	expression := function.Recv.List[0].Type
	for {
		switch e := expression.(type) {
		case *ast.StarExpr:
			expression = e.X
		case *ast.IndexExpr:
			expression = e.X
		case *ast.IndexListExpr:
			expression = e.X
		case *ast.Ident:
			return e.Name + ".", e.IsExported()
		default:
			return "", false
		}
	}
}
