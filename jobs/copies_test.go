package jobs

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A job specification cannot include a part of another, so some blocks are written in
// several: variables of one name, what Nomad does when something ends or is lost, where the
// release comes from, and each secret's template.
var copiedBlocks = regexp.MustCompile(`^(variable "[a-z0-9_]+"|update|restart|reschedule|disconnect|artifact|logs|template [^ ]+)$`)

// ownVariables mean something else in each specification: its own size, its own port.
var ownVariables = []string{"count", "cpu", "memory", "port", "shares", "slots", "volume", "functions"}

// variant are specifications in which a block is another on purpose: the same in all of
// these.
type variant struct {
	why   string
	specs []string
}

// variants are those of each block; what is in no variant is the usual one, and the same.
var variants = map[string][]variant{
	"restart": {
		{"what it keeps, or its address, is on this host: it is tried here for as long as the host is", []string{"front-door", "queue", "redis", "store"}},
		{"a batch that fails has time", []string{"billing", "resize-bulk"}},
	},
	"reschedule": {
		{"a batch is given up in the end, and named as failed", []string{"billing"}},
		{"a share goes on elsewhere five times an hour, and is given up then", []string{"resize-bulk"}},
	},
	"disconnect": {{"what it keeps is on the disk of the host that is cut off", []string{"queue", "redis"}}},
	"update": {
		{"it cannot stand beside the one before: one host after the other", []string{"front-door", "store"}},
		{"a node first reads what its disk has", []string{"queue"}},
		{"a replica first copies what its master has", []string{"redis"}},
		{"growth is a deployment, too: one worker on a bad machine must not take the others back", []string{"worker"}},
	},
	"artifact": {{"it is another server's release", []string{"store"}}},
	"template ${NOMAD_SECRETS_DIR}/sentinel.password": {{"a shell reads it as a line", []string{"redis"}}},
	`variable "callback_allow"`:                       {{"it points to the queue's", []string{"gateway"}}, {"it points to the gateway's", []string{"queue"}}},
	`variable "callback_forbid"`:                      {{"it points to the queue's", []string{"gateway"}}, {"it points to the gateway's", []string{"queue"}}},
	`variable "usage_bucket"`:                         {{"it points to the gateways', and must be given", []string{"billing"}}},
}

// specBlock is a block of a specification, comments and alignment left out.
type specBlock struct{ name, text string }

var (
	alignment   = regexp.MustCompile(`\s+`)
	destination = regexp.MustCompile(`(?m)^destination = "([^"]+)"$`)
	heredoc     = regexp.MustCompile(`<<-?([A-Z]+)$`)
	trailing    = regexp.MustCompile(`\s+# [^"]*$`)
)

// blocksOf are all blocks of a specification's text, at every depth. A template is named
// by its destination.
func blocksOf(source string) (found []specBlock) {
	type open struct {
		name  string
		lines []string
	}
	var stack []open
	until := "" // the end of a heredoc
	for line := range strings.Lines(source) {
		line = strings.TrimSpace(line)
		if until == "" {
			line = trailing.ReplaceAllString(alignment.ReplaceAllString(line, " "), "")
		}
		switch {
		case until != "" && line == until:
			until = ""
		case until != "":
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case heredoc.MatchString(line):
			until = heredoc.FindStringSubmatch(line)[1]
		case strings.HasSuffix(line, "{"):
			stack = append(stack, open{name: strings.TrimSuffix(line, " {")})
			continue
		case line == "}":
			last := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			block := specBlock{last.name, strings.Join(last.lines, "\n")}
			if to := destination.FindStringSubmatch(block.text); block.name == "template" && to != nil {
				block.name += " " + to[1]
			}
			found = append(found, block)
			if len(stack) > 0 {
				top := &stack[len(stack)-1]
				top.lines = append(append(append(top.lines, last.name+" {"), last.lines...), "}")
			}
			continue
		}
		if len(stack) > 0 {
			top := &stack[len(stack)-1]
			top.lines = append(top.lines, line)
		}
	}
	return found
}

// copiesOf are the texts of each copied block, by block and specification. A block that
// is there several times in one specification is so many texts.
func copiesOf(sources map[string]string) map[string]map[string][]string {
	copies := make(map[string]map[string][]string)
	for spec, source := range sources {
		for _, block := range blocksOf(source) {
			variable := strings.Trim(strings.TrimPrefix(block.name, "variable "), `"`)
			if !copiedBlocks.MatchString(block.name) || slices.Contains(ownVariables, variable) {
				continue
			}
			if copies[block.name] == nil {
				copies[block.name] = make(map[string][]string)
			}
			copies[block.name][spec] = append(copies[block.name][spec], block.text)
		}
	}
	maps.DeleteFunc(copies, func(_ string, bySpec map[string][]string) bool { return len(bySpec) == 1 })
	return copies
}

// unequal lists the copies that are not like the others of their variant, and the
// variants that are none.
func unequal(sources map[string]string, variants map[string][]variant) (found []string) {
	copies := copiesOf(sources)
	for _, name := range slices.Sorted(maps.Keys(copies)) {
		first := make(map[int]string) // the specification that the others of a variant are compared with
		for _, spec := range slices.Sorted(maps.Keys(copies[name])) {
			of := slices.IndexFunc(variants[name], func(v variant) bool { return slices.Contains(v.specs, spec) })
			if first[of] == "" {
				first[of] = spec
			}
			want := copies[name][first[of]][0]
			if slices.ContainsFunc(copies[name][spec], func(text string) bool { return text != want }) {
				found = append(found, fmt.Sprintf("%s%s: its %s is not that of %s%s: make them the same, or say in a variant why they are not", spec, specSuffix, name, first[of], specSuffix))
			}
		}
		for of, v := range variants[name] {
			for other, spec := range first {
				if other < of && first[of] != "" && copies[name][spec][0] == copies[name][first[of]][0] {
					found = append(found, fmt.Sprintf("%s%s: its %s is that of %s%s: it needs no variant (%s)", first[of], specSuffix, name, spec, specSuffix, v.why))
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(variants)) {
		for _, v := range variants[name] {
			for _, spec := range v.specs {
				if copies[name][spec] == nil {
					found = append(found, fmt.Sprintf("%s%s has no %s that others have, too, and a variant for it", spec, specSuffix, name))
				}
			}
		}
	}
	return found
}

func TestBlocksThatAreWrittenTwiceAreTheSame(t *testing.T) {
	sources := make(map[string]string)
	for _, name := range Specs() {
		source, err := Source(name)
		if err != nil {
			t.Fatal(err)
		}
		sources[name] = source
	}
	if copies := copiesOf(sources); len(copies) < 20 {
		t.Errorf("only %d blocks are found in several specifications: %v", len(copies), slices.Sorted(maps.Keys(copies)))
	}
	for _, difference := range unequal(sources, variants) {
		t.Error(difference)
	}
}

func TestCopiesThatDifferAreNamed(t *testing.T) {
	const usual = "job \"x\" {\n  group \"x\" {\n    restart {\n      attempts = 3 # times\n      mode     = \"fail\"\n    }\n" +
		"    task \"x\" {\n      template {\n        destination = \"key\"\n        data        = <<-EOT\n          {{ with x }}{\n          }{{ end }}\n        EOT\n      }\n    }\n  }\n}\n"
	for name, test := range map[string]struct {
		b        string
		variants map[string][]variant
		want     []string
	}{
		"the same":          {usual, nil, nil},
		"aligned otherwise": {strings.ReplaceAll(strings.Replace(usual, "mode     =", "mode =", 1), "# times", "# or more"), nil, nil},
		"a value":           {strings.Replace(usual, "3", "4", 1), nil, []string{"b.nomad.hcl: its restart is not that of a.nomad.hcl"}},
		"within a heredoc":  {strings.Replace(usual, "with x", "with y", 1), nil, []string{"b.nomad.hcl: its template key is not that of a.nomad.hcl"}},
		"on purpose":        {strings.Replace(usual, "3", "4", 1), map[string][]variant{"restart": {{"why", []string{"b"}}}}, nil},
		"no longer":         {usual, map[string][]variant{"restart": {{"why", []string{"b"}}}}, []string{"b.nomad.hcl: its restart is that of a.nomad.hcl: it needs no variant (why)"}},
		"nowhere":           {usual, map[string][]variant{"update": {{"why", []string{"b"}}}}, []string{"b.nomad.hcl has no update"}},
	} {
		found := unequal(map[string]string{"a": usual, "b": test.b}, test.variants)
		if len(found) != len(test.want) || len(found) > 0 && !strings.HasPrefix(found[0], test.want[0]) {
			t.Errorf("%s: %q, want %q", name, found, test.want)
		}
	}
}
