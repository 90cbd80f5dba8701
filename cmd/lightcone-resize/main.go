// Command lightcone-resize is the resize function's executable. Lightcone starts
// it once per slot; package functions documents how it is called, package resize
// what it does. It takes no arguments.
package main

import (
	"fmt"
	"os"

	"lightcone/functions"
	"lightcone/functions/resize"
)

func main() {
	err := resize.Warm()
	if err == nil {
		err = functions.Serve(resize.Handler)
	}
	fmt.Fprintln(os.Stderr, "lightcone-resize:", err)
	os.Exit(1)
}
