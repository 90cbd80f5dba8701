package resize

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lightcone/internal/problem"
)

var compareParams = cmp.AllowUnexported(Params{}, turn{}, background{})

func TestParseParams(t *testing.T) {
	base := Params{fit: fitScaleDown, gravity: gravityCenter, dpr: 1}
	with := func(change func(*Params)) Params {
		p := base
		change(&p)
		return p
	}
	for _, test := range []struct {
		query string
		want  Params
	}{
		{"", base},
		{"width=300", with(func(p *Params) { p.width = 300 })},
		{"height=8192&width=1", with(func(p *Params) { p.width, p.height = 1, 8192 })},
		{"fit=cover&gravity=north-east", with(func(p *Params) { p.fit, p.gravity = fitCover, "north-east" })},
		{"fit=pad&gravity=smart", with(func(p *Params) { p.fit, p.gravity = fitPad, gravitySmart })},
		{"format=auto", with(func(p *Params) { p.format = autoFormat })},
		{"format=avif&quality=100", with(func(p *Params) { p.format, p.quality = avifFormat, 100 })},
		{"dpr=0.1&width=4", with(func(p *Params) { p.dpr, p.width = 0.1, 4 })},
		{"dpr=8&width=1024", with(func(p *Params) { p.dpr, p.width = 8, 1024 })},
		{"rotate=90", with(func(p *Params) { p.turn = turn{quarters: 1} })},
		{"rotate=0", base},
		{"flip=horizontal", with(func(p *Params) { p.turn = mirrorSideways })},
		{"flip=h", with(func(p *Params) { p.turn = mirrorSideways })},
		{"flip=true", with(func(p *Params) { p.turn = mirrorSideways })},
		{"flip", with(func(p *Params) { p.turn = mirrorSideways })},
		{"flip=v", with(func(p *Params) { p.turn = mirrorUpDown })},
		{"flip=vertical", with(func(p *Params) { p.turn = mirrorUpDown })},
		{"flip=both", with(func(p *Params) { p.turn = turn{quarters: 2} })},
		{"flip=hv&rotate=180", base},
		{"flip=none", base},
		{"flip=false", base},
		{"rotate=90&flip=h", with(func(p *Params) { p.turn = turn{quarters: 3, mirror: true} })},
		{"blur=2.5&sharpen=10", with(func(p *Params) { p.blur, p.sharpen = 2.5, 10 })},
		{"background=%23ff8000", with(func(p *Params) { p.background = background{given: true, red: 255, green: 128} })},
		{"background=F80", with(func(p *Params) { p.background = background{given: true, red: 255, green: 136} })},
		{"background=white", with(func(p *Params) { p.background = background{given: true, red: 255, green: 255, blue: 255} })},
		{"background=black", with(func(p *Params) { p.background = background{given: true} })},
		{"background=transparent", with(func(p *Params) { p.background = background{given: true, transparent: true} })},
		{"strip=false", with(func(p *Params) { p.keepMetadata = true })},
		{"strip=true", base},
	} {
		got, err := ParseParams(test.query)
		if err != nil {
			t.Errorf("%q: %v", test.query, err)
		} else if diff := cmp.Diff(test.want, got, compareParams); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.query, diff)
		}
	}
}

func TestBadParametersAreNamed(t *testing.T) {
	for _, test := range []struct {
		query string
		says  []string
	}{
		{"width=-1", []string{"width", `"-1"`, "1 to 8192"}},
		{"width=0", []string{"width", `"0"`, "1 to 8192"}},
		{"width=1e9", []string{"width", `"1e9"`, "1 to 8192"}},
		{"width=1000000000000000000000", []string{"width", "1 to 8192"}},
		{"width=8193", []string{"width", "8192"}},
		{"width=", []string{"width", `""`}},
		{"width=12px", []string{"width", `"12px"`}},
		{"height=2.5", []string{"height", `"2.5"`}},
		{"width=1&width=1", []string{"width", "2 times"}},
		{"widht=300", []string{`"widht"`, "width"}},
		{"fit=squash", []string{"fit", "scale-down"}},
		{"fit=", []string{"fit"}},
		{"gravity=up", []string{"gravity", "north-west", "smart"}},
		{"format=gif", []string{"format", "avif"}},
		{"format=tiff", []string{"format"}},
		{"quality=0", []string{"quality", "1 to 100"}},
		{"quality=101", []string{"quality"}},
		{"dpr=0.05", []string{"dpr", "0.1 to 8"}},
		{"dpr=NaN", []string{"dpr"}},
		{"dpr=Inf", []string{"dpr"}},
		{"dpr=9", []string{"dpr"}},
		{"width=5000&dpr=2", []string{"width=5000", "dpr=2", "10000", "8192"}},
		{"height=2048&dpr=8", []string{"height=2048", "16384"}},
		{"rotate=45", []string{"rotate", "270"}},
		{"rotate=090", []string{"rotate"}},
		{"flip=diagonal", []string{"flip", "vertical"}},
		{"blur=101", []string{"blur", "0 to 100"}},
		{"blur=-1", []string{"blur"}},
		{"sharpen=11", []string{"sharpen", "0 to 10"}},
		{"background=reddish", []string{"background", "RRGGBB"}},
		{"background=12345", []string{"background"}},
		{"background=%2B12345", []string{"background"}},
		{"strip=yes", []string{"strip", "true"}},
		{"strip=", []string{"strip"}},
		{"a=%zz", []string{"query"}},
		{"width=" + strings.Repeat("9", 5000), []string{"width", "…"}},
		{strings.Repeat("x", 5000) + "=1", []string{"xxx", "…"}},
		{"width=%0a%00%ff", []string{"width", `\n\x00\xff`}},
	} {
		_, err := ParseParams(test.query)
		if err == nil {
			t.Errorf("%.60q: no error", test.query)
			continue
		}
		wantKind(t, err, problem.BadParameter)
		for _, word := range test.says {
			if !strings.Contains(problem.Of(err).Detail, word) {
				t.Errorf("%.60q: the detail %q does not say %s", test.query, problem.Of(err).Detail, word)
			}
		}
	}
}

func FuzzParseParams(f *testing.F) {
	for _, query := range []string{"", "width=300&fit=cover", "flip", "dpr=1e-1", "background=%23fff", "a=%zz", "width=1;height=2"} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		p, err := ParseParams(query)
		if err != nil {
			wantKind(t, err, problem.BadParameter)
			return
		}
		if scaled(p.width, p.dpr) > maxSide || scaled(p.height, p.dpr) > maxSide || p.quality > 100 || !(p.blur <= maxBlur) || !(p.sharpen <= maxSharpen) {
			t.Fatalf("%q is out of bounds as %+v", query, p)
		}
		if _, err := arrange(p, size{640, 480}); err != nil {
			wantKind(t, err, problem.BadParameter)
		}
	})
}
