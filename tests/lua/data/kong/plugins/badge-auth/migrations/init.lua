return {
  "000_base_badge_auth",
  "001_100_to_110",
}
