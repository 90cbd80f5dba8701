package client

import "lightcone/internal/naming"

// Names decides what each file of a folder is called once it has been through a
// function, so that no two outputs meet: a.jpg that became WebP is a.webp, but
// where a.png is to be found beside it they become a.jpg.webp and a.png.webp.
type Names struct {
	beginnings map[string]int // how many inputs begin so, counted at every dot and at the end
	inputs     map[string]bool
}

// NamesFor prepares the naming of inputs, which are slash-separated paths below
// one folder.
func NamesFor(inputs []string) *Names {
	n := &Names{beginnings: make(map[string]int), inputs: make(map[string]bool, len(inputs))}
	for _, input := range inputs {
		n.inputs[input] = true
		n.beginnings[input]++
		for i := len(input) - 1; i >= 0 && input[i] != '/'; i-- {
			if input[i] == '.' {
				n.beginnings[input[:i]]++
			}
		}
	}
	return n
}

// Output is where the result of input goes: its name as it is where that fits
// the content type, or where the table of extensions does not know the type.
func (n *Names) Output(input, contentType string) string { return n.name(input).Output(contentType) }

// Candidates are the names that the result of input may have, of whatever type
// it turns out to be.
func (n *Names) Candidates(input string) []string { return n.name(input).Candidates() }

func (n *Names) name(input string) naming.Name {
	stem, _ := naming.Split(input)
	return naming.Name{Path: input, Taken: n.inputs[stem], Crowded: n.beginnings[stem] > 1}
}
