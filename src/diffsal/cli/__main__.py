from diffsal.cli import main

main()
