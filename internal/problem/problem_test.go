package problem

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestAKindSurvivesWrapping(t *testing.T) {
	cause := errors.New("byte 7")
	err := fmt.Errorf("call 1: %w", New(CorruptInput, "The image is %s.", "damaged").Because(cause))
	found := Of(err)
	if found.Kind != CorruptInput || found.Detail != "The image is damaged." || !errors.Is(err, cause) {
		t.Errorf("found %+v", found)
	}
	for _, part := range []string{"corrupt-input", "The image is damaged.", "byte 7"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is missing in %q", part, err)
		}
	}
}

func TestAnErrorWithoutAKindKeepsItsTextToItself(t *testing.T) {
	secret := errors.New("open /home/someone/key")
	found := Of(secret)
	if found.Kind != Internal || strings.Contains(found.Detail, "someone") || !errors.Is(found, secret) {
		t.Errorf("found %+v", found)
	}
}
