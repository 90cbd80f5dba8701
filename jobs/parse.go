package jobs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/nomad/api"
)

// Parse has Nomad read a job specification in HCL2. A variable's value is taken
// literally where its type is string, number or bool, and as an HCL expression
// where it is a list, a map or an object: ["a","b"].
//
// What is wrong with the specification or with a variable comes out as one
// sentence, for a variable with its name in front: `variable workers: The number
// of workers must be at least 1.` A variable that the specification does not
// declare is an error too.
func (c *Client) Parse(ctx context.Context, hcl string, variables map[string]string) (*Job, error) {
	text, names, err := variablesFile(hcl, variables)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var parsed api.Job
	request := &api.JobsParseRequest{JobHCL: hcl, Variables: text}
	// Jobs().ParseHCLOpts sends the same, but takes no context.
	_, err = c.nomad.Raw().Write("/v1/jobs/parse", request, &parsed, (&api.WriteOptions{}).WithContext(bounded))
	if err == nil {
		return &Job{spec: &parsed, source: hcl, variables: text}, nil
	}
	if answer, ok := errors.AsType[api.UnexpectedResponseError](err); ok && answer.StatusCode() == http.StatusBadRequest {
		return nil, errors.New(parseSentence(answer.Body(), names))
	}
	return nil, c.failed(ctx, err, "parse the job specification")
}

var (
	// A diagnostic of HCL's: "input.hcl:3,14-19: Summary; Detail", where the place
	// may be "<nil>" and may end on another line.
	diagnostic = regexp.MustCompile(`^(?:[^:\s]+:(\d+),[\d,-]+|<nil>): ([^;]+); (.*)$`)
	unset      = regexp.MustCompile(`^Unset variable "([^"]+)"`)
)

// parseSentence turns Nomad's answer to a specification that it could not parse
// into one sentence. names are the variables that were given, in the order of
// their lines: Nomad calls both texts input.hcl, and only its summary tells which
// one it means.
func parseSentence(body string, names []string) string {
	body = strings.TrimPrefix(strings.TrimSpace(body), "Failed to parse job: ")
	lines := strings.Split(body, "\n")
	found := diagnostic.FindStringSubmatch(lines[0])
	if found == nil {
		return "the job specification: " + oneLine(body)
	}
	line, _ := strconv.Atoi(found[1])
	summary, detail := found[2], strings.TrimSpace(found[3])
	if name := unset.FindStringSubmatch(summary); name != nil {
		return fmt.Sprintf("variable %s: it has no default, so it must be given a value", name[1])
	}
	aboutVariable := strings.HasPrefix(summary, "Invalid value for varfile variable") || summary == "Invalid value for variable"
	if aboutVariable && line >= 1 && line <= len(names) {
		return fmt.Sprintf("variable %s: %s", names[line-1], detail)
	}
	sentence := fmt.Sprintf("the job specification, line %d: %s: %s", line, summary, detail)
	if line == 0 {
		sentence = fmt.Sprintf("the job specification: %s: %s", summary, detail)
	}
	more := 0
	for _, other := range lines[1:] {
		if diagnostic.MatchString(other) {
			more++
		}
	}
	if more > 0 {
		sentence += fmt.Sprintf(" (and %d more)", more)
	}
	return sentence
}
