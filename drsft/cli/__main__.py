from drsft.cli import main

main()
