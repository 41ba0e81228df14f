// The program that a function with Handle(http.ResponseWriter, *http.Request) becomes part of.
package main

import "handler/function"

func main() {
	serve(function.Handle)
}
