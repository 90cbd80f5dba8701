package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReport(t *testing.T) {
	const good = `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"TestX"}
{"Action":"output","Package":"a","Test":"TestX","Output":"    chatter\n"}
{"Action":"pass","Package":"a","Test":"TestX"}
{"Action":"output","Package":"a","Output":"PASS\n"}
{"Action":"output","Package":"a","Output":"ok  \ta\t0.1s\n"}
{"Action":"pass","Package":"a"}
`
	for _, test := range []struct{ name, events, printed, wrong string }{
		{
			name:    "all good: the summary and nothing else",
			events:  good,
			printed: "ok  \ta\t0.1s\n",
		},
		{
			name: "a package without tests is not a skipped test",
			events: good + `{"Action":"output","Package":"b","Output":"?   \tb\t[no test files]\n"}
{"Action":"skip","Package":"b"}
`,
			printed: "ok  \ta\t0.1s\n?   \tb\t[no test files]\n",
		},
		{
			name: "a skipped test",
			events: `{"Action":"output","Package":"a","Test":"TestX","Output":"    x_test.go:3: no Redis here\n"}
{"Action":"skip","Package":"a","Test":"TestX"}
` + good,
			printed: "    x_test.go:3: no Redis here\nok  \ta\t0.1s\n",
			wrong:   "1 skipped, which counts as failed: a TestX",
		},
		{
			name: "a failed test",
			events: `{"Action":"output","Package":"a","Test":"TestX","Output":"    x_test.go:3: got 1\n"}
{"Action":"fail","Package":"a","Test":"TestX"}
{"Action":"output","Package":"a","Output":"FAIL\ta\t0.1s\n"}
{"Action":"fail","Package":"a"}
`,
			printed: "    x_test.go:3: got 1\nFAIL\ta\t0.1s\n",
			wrong:   "2 failed: a TestX; a",
		},
		{
			name: "a panic, whose test never ends",
			events: `{"Action":"output","Package":"a","Test":"TestX","Output":"panic: boom\n"}
{"Action":"output","Package":"a","Output":"FAIL\ta\t0.1s\n"}
{"Action":"fail","Package":"a"}
`,
			printed: "panic: boom\nFAIL\ta\t0.1s\n",
			wrong:   "1 failed: a",
		},
		{
			name: "a package that does not build",
			events: `{"ImportPath":"a","Action":"build-output","Output":"a.go:1: syntax error\n"}
{"ImportPath":"a","Action":"build-fail"}
{"Action":"output","Package":"a","Output":"FAIL\ta [build failed]\n"}
{"Action":"fail","Package":"a","FailedBuild":"a"}
`,
			printed: "a.go:1: syntax error\nFAIL\ta [build failed]\n",
			wrong:   "1 failed: a",
		},
		{
			name:    "nothing ran, and go said why",
			events:  "go: cannot find main module\n",
			printed: "go: cannot find main module\n",
			wrong:   "no package was tested",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			wrong := ""
			if err := report(strings.NewReader(test.events), &out); err != nil {
				wrong = err.Error()
			}
			if diff := cmp.Diff(test.printed, out.String()); diff != "" {
				t.Errorf("printed (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.wrong, wrong); diff != "" {
				t.Errorf("verdict (-want +got):\n%s", diff)
			}
		})
	}
}
