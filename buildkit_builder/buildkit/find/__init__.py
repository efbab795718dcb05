"""Which BuildKit: addresses, Docker's contexts, buildx's builders, and the search through all of them."""
