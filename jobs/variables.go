package jobs

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var (
	variableHeader = regexp.MustCompile(`(?m)^[ \t]*variable[ \t]+"([^"]+)"[ \t]*\{`)
	variableType   = regexp.MustCompile(`(?m)^[ \t]*type[ \t]*=[ \t]*([a-z]+)`)
)

// declaredVariables maps the variables that a specification declares to the first
// word of their types: string, number, bool, list, …; string where none is given,
// as Nomad's command line takes it.
func declaredVariables(hcl string) map[string]string {
	declared := make(map[string]string)
	headers := variableHeader.FindAllStringSubmatchIndex(hcl, -1)
	for i, header := range headers {
		end := len(hcl)
		if i+1 < len(headers) {
			end = headers[i+1][0]
		}
		kind := "string"
		if found := variableType.FindStringSubmatch(hcl[header[1]:end]); found != nil {
			kind = found[1]
		}
		declared[hcl[header[2]:header[3]]] = kind
	}
	return declared
}

// variablesFile is the text of a variables file for a specification: one variable
// a line, in the order of the names it returns. Nomad itself passes over a
// variable that nobody declared; here it is an error, because it is a typing
// mistake.
func variablesFile(hcl string, values map[string]string) (text string, names []string, err error) {
	declared := declaredVariables(hcl)
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(values)) {
		kind, known := declared[name]
		if !known {
			return "", nil, fmt.Errorf("the job specification declares no variable %q; it declares %s",
				name, strings.Join(slices.Sorted(maps.Keys(declared)), ", "))
		}
		value := values[name]
		switch kind {
		case "string", "number", "bool": // HCL converts a string to either of the others
			value = quoted(value)
		default: // an expression, as in -var 'racks=["a","b"]'; one line, to keep the names' order
			value = strings.ReplaceAll(value, "\n", " ")
		}
		fmt.Fprintf(&lines, "%s = %s\n", name, value)
		names = append(names, name)
	}
	return lines.String(), names, nil
}

// hclEscapes are what a quoted template in HCL's native syntax would read
// otherwise (https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md#template-literals).
var hclEscapes = strings.NewReplacer(
	`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "${", "$${", "%{", "%%{",
)

// quoted is a text as a string of HCL's native syntax.
func quoted(text string) string { return `"` + hclEscapes.Replace(text) + `"` }
