package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/nomad/api"
)

// specification is a job specification and its variables.
type specification struct {
	source    string
	json      bool
	variables map[string]string
}

// parse asks Nomad for the job that a specification is.
func (s specification) parse(client *api.Client) (*api.Job, error) {
	if s.json {
		return parseJSON(s.source)
	}
	variables, err := s.variablesFile()
	if err != nil {
		return nil, err
	}
	job, err := client.Jobs().ParseHCLOpts(&api.JobsParseRequest{JobHCL: s.source, Variables: variables})
	if err != nil {
		return nil, fmt.Errorf("the job specification does not parse: %w", err)
	}
	if job.ID == nil || *job.ID == "" {
		return nil, errors.New("the job specification has no job")
	}
	if job.Namespace == nil || *job.Namespace == "" {
		job.Namespace = new(api.DefaultNamespace)
	}
	return job, nil
}

// parseJSON takes a job in Nomad's JSON, with or without the "Job" around it that
// `nomad job run -output` prints.
func parseJSON(source string) (*api.Job, error) {
	var wrapped struct{ Job *api.Job }
	if err := json.Unmarshal([]byte(source), &wrapped); err != nil {
		return nil, fmt.Errorf("the job specification is no JSON: %w", err)
	}
	job := wrapped.Job
	if job == nil {
		job = new(api.Job)
		if err := json.Unmarshal([]byte(source), job); err != nil {
			return nil, fmt.Errorf("the job specification is no job in JSON: %w", err)
		}
	}
	if job.ID == nil || *job.ID == "" {
		return nil, errors.New("the job specification, in JSON, has no ID")
	}
	if job.Namespace == nil || *job.Namespace == "" {
		job.Namespace = new(api.DefaultNamespace)
	}
	return job, nil
}

var (
	variableBlock = regexp.MustCompile(`(?m)^[ \t]*variable[ \t]+"([^"]+)"[ \t]*\{`)
	typeLine      = regexp.MustCompile(`(?m)^[ \t]*type[ \t]*=[ \t]*([a-z]+)`)
)

// variablesFile is the values as text for Nomad's parser, which takes a variables
// file. As on Nomad's command line, a value is text for a variable of type string,
// number or none, and an expression for the others; and a value for a variable
// that the specification does not declare is an error, which the parser itself
// passes over.
func (s specification) variablesFile() (string, error) {
	declared := make(map[string]string)
	blocks := variableBlock.FindAllStringSubmatchIndex(s.source, -1)
	for i, block := range blocks {
		end := len(s.source)
		if i+1 < len(blocks) {
			end = blocks[i+1][0]
		}
		name, kind := s.source[block[2]:block[3]], ""
		if found := typeLine.FindStringSubmatch(s.source[block[1]:end]); found != nil {
			kind = found[1]
		}
		declared[name] = kind
	}
	var file strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.variables)) {
		kind, is := declared[name]
		if !is {
			return "", fmt.Errorf("the job specification declares no variable %q; it declares %s", name, strings.Join(slices.Sorted(maps.Keys(declared)), ", "))
		}
		value := s.variables[name]
		if kind == "" || kind == "string" || kind == "number" {
			value = quote(value)
		}
		fmt.Fprintf(&file, "%s = %s\n", name, value)
	}
	return file.String(), nil
}

// quote writes a text as HCL's literal (HCL native syntax, "Template Expressions").
func quote(text string) string {
	text = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`, "${", "$${", "%{", "%%{").Replace(text)
	return `"` + text + `"`
}
