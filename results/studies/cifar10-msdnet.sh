# Networks with exits: base, L2W and boosted, a small MSDNet with 5 exits, 20 epochs.
# needs: CIFAR-10
# takes: 16 hours on one core: a seed takes 1 for base, 3.5 for L2W and 1 for boosted. METHODS names fewer
need_data "$cifar10" CIFAR10
no_seeds_in_extra
small=(--n_blocks 5 --base 1 --step 1 --n_channels 8 --growth_rate 4)
read -ra methods <<< "${METHODS:-base l2w boosted}"
for method in "${methods[@]}"; do
  exits "$cifar10" exits "$method" --arch msdnet --augment flip_crop --epochs 20 "${small[@]}" \
    ${fast_msdnet[@]+"${fast_msdnet[@]}"}
done
plot_exits exits
"$python" -m figures.early_exit "$run/exits" --published --out "$run/published-points"
files=("*-eval.json" args.json "figures/*-anytime.png" "published-points/*-budgeted.png")
predictions=() # logits would be 14 MB
tables=(cifar10-msdnet cifar10-msdnet-optimism)
