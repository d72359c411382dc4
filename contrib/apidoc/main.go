// Command apidoc writes docs/api.md from the OpenAPI that forged serves. `make docs` calls it;
// its test fails when the page is not what it would write.
package main

import (
	"fmt"
	"os"
)

const page = "docs/api.md"

func main() {
	text, err := render()
	if err == nil {
		err = os.WriteFile(page, []byte(text), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "apidoc:", err)
		os.Exit(1)
	}
}
