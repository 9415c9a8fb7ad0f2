# Exits on a device and a server behind it: the base networks of cifar10-msdnet, and convnet beside them.
# needs: CIFAR-10; MSDNET, the run of cifar10-msdnet
# takes: 45 minutes a seed on one core
need_data "$cifar10" CIFAR10
no_seeds_in_extra
exits=${MSDNET:-results/runs/cifar10-msdnet}/exits/base
need "$exits" "set MSDNET to the run of: bash results/make.sh cifar10-msdnet"
edge="--edge_net convnet --epochs 8 --batch_size 64 --lr 0.05 --weight_decay 5e-4 --schedule cosine"
if [ "${FAST:-0}" = 1 ]; then edge=; fi
env DATASETS="$cifar10" SEEDS="${seeds[*]}" EXITS="$exits" \
  EXTRA="$edge --augment flip_crop --data_root $data_root ${EXTRA:-}" \
  bash runs/exits-and-server.sh "$run"
for cost_1 in 1 1.25; do
  "$python" -m figures.exits_and_server "$run/joined/$name" --cost_1 "$cost_1" \
    --out "$run/cost_1-$cost_1"
done
files=("*-report.json" "cost_1-*/*.csv" "cost_1-*/*.png") predictions=() # logits would be 14 MB
tables=(cifar10-exits-and-server cifar10-exits-and-server-1.25)
