# How near rejectors on features, and on the image by two small networks, come to the best estimates.
# needs: CIFAR-10
# takes: 40 minutes a seed on one core
need_data "$cifar10" CIFAR10
edge="--edge_net convnet --epochs 8 --batch_size 64 --lr 0.05 --weight_decay 5e-4 --schedule cosine"
if [ "${FAST:-0}" = 1 ]; then edge=; fi
env DATASETS="$cifar10" SEEDS="${seeds[*]}" \
  EXTRA="$edge --augment flip_crop --data_root $data_root ${EXTRA:-}" bash runs/ceiling.sh "$run"
files=("*-ceiling.png")
tables=(cifar10-ceiling)
