// The program that a function with Handle([]byte) string becomes part of: one process a call.
package main

import (
	"fmt"
	"io"
	"log"
	"os"

	"handler/function"
)

func main() {
	request, err := io.ReadAll(os.Stdin)
	if err != nil {
		log.Fatalf("the request could not be read: %v", err)
	}
	fmt.Println(function.Handle(request))
}
